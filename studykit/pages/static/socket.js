// Carries messages over a websocket, as anywidget does in a notebook. A lost connection is made
// again by itself; what was not answered is sent once more by whoever asked.

const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 8000;

export class Socket {
  // The first message of each connection says who enters.
  constructor(path, greeting) {
    this.address = new URL(path, location.href.replace(/^http/, "ws")).href;
    this.greeting = greeting;
    this.hearers = new Set();
    this.wait = FIRST_WAIT;
    this.onenter = () => {};
    this.onrefuse = () => {};
    addEventListener("online", () => this.connect());
    this.connect();
  }

  on(_event, hear) {
    this.hearers.add(hear);
  }

  off(_event, hear) {
    this.hearers.delete(hear);
  }

  send(message) {
    if (!this.entered) throw new Error("not connected");
    this.socket.send(JSON.stringify(message));
  }

  connect() {
    clearTimeout(this.timer);
    if (this.refused || (this.socket && this.socket.readyState < WebSocket.CLOSING)) return;
    const socket = (this.socket = new WebSocket(this.address));
    socket.onopen = () => socket.send(JSON.stringify({ verb: "enter", ...this.greeting() }));
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = () => {
      this.entered = false;
      if (socket !== this.socket || this.refused) return;
      this.timer = setTimeout(() => this.connect(), this.wait * (0.5 + Math.random()));
      this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
    };
  }

  hear(message) {
    if (message.refused) {
      this.refused = true;
      this.onrefuse(message);
    } else if (message.entered) {
      this.entered = true;
      this.wait = FIRST_WAIT;
      this.onenter(message);
    } else {
      for (const hear of this.hearers) hear(message, []);
    }
  }
}
