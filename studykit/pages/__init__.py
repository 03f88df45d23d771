"""What people see in a browser or a notebook: the pages, and what serves them."""
