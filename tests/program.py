"""A program as people have them, which behaves well or badly: program.py HOW SOURCE DRIVING FOLDER.

It decodes nothing: of the driving it shows each frame again, since a copy of the file is a clip.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

how, source, driving, *folder = sys.argv[1:] if len(sys.argv) > 3 else (*sys.argv[1:], "", "")
folder = Path(*folder)

if how == "version":
    print("program 1.2\nmore")
elif how == "good":
    shutil.copy(driving, folder / "clip.mp4")
elif how == "still":  # a PNG is no clip
    shutil.copy(source, folder / "clip.mp4")
elif how == "silent":
    pass
elif how == "crash":
    print("loading ...", os.environ.get("API_TOKEN"), flush=True)
    raise ValueError("no such model")
elif how == "slow":
    (folder / "began").touch()
    time.sleep(60)
elif how == "elsewhere":
    shutil.copy(driving, folder.parent / "clip.mp4")
elif how == "link":
    (folder / "clip.mp4").symlink_to(Path(driving).resolve())
elif how == "pipe":
    os.mkfifo(folder / "clip.mp4")
elif how == "list":  # which other programs would follow
    (folder / "clip.mp4").write_text(f"ffconcat version 1.0\nfile '{driving}'\n")
elif how == "two":
    shutil.copy(driving, folder / "a.mp4")
    shutil.copy(driving, folder / "b.mp4")
elif how == "noisy":
    for _ in range(2000):
        print("x" * 10_000)
    sys.exit("the end")
elif how == "huge":
    with open(folder / "rest", "wb") as file:
        file.truncate(1 << 40)
    time.sleep(60)
elif how == "many":
    for number in range(5000):
        (folder / str(number)).touch()
    time.sleep(60)
elif how in ("leaves", "daemon"):
    code = (
        f"import os, time; open({driving + '.pid'!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    subprocess.Popen([sys.executable, "-c", code], start_new_session=how == "daemon")
    while not Path(driving + ".pid").exists() or not Path(driving + ".pid").read_text():
        time.sleep(0.01)
    shutil.copy(driving + ".pid", os.environ["PIDS"])
    shutil.copy(driving, folder / "clip.mp4")
elif how.endswith(".mp4"):  # a clip made before
    shutil.copy(how, folder / "clip.mp4")
