// Plays several videos in step: the first sets the clock, the others are drawn towards it.
// A video's own clock is kept by the browser; two that are started together part by a few
// milliseconds a second, and by far more where a processor is busy.

const REGROUP = 1.5; // frames apart from which all are halted and set going together again
const PULL = 0.3; // seconds in which a smaller distance is closed by a slightly other speed

export class Player {
  constructor(videos, frameRate) {
    this.videos = videos;
    this.frame = 1 / frameRate;
    this.rate = 1;
    this.onchange = () => {};
    this.onend = () => {};
    this.regrouping = false;
    for (const video of videos) {
      video.addEventListener("ended", () => this.ended());
      for (const event of ["play", "pause"]) video.addEventListener(event, () => this.onchange());
    }
    this.follow();
  }

  get playing() {
    return this.regrouping || this.videos.some((video) => !video.paused && !video.ended);
  }

  // Share of the clips that was played: that of the one which is least far, 0 to 1.
  get share() {
    const share = ({ ended, currentTime, duration }) => (ended ? 1 : currentTime / duration || 0);
    return Math.min(...this.videos.map(share));
  }

  // Resolves when every video has its first frame; rejects where one can't be played.
  ready() {
    const loaded = (video) =>
      new Promise((resolve, reject) => {
        if (video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) resolve();
        video.addEventListener("canplaythrough", resolve, { once: true });
        video.addEventListener("error", () => reject(video.error), { once: true });
      });
    return Promise.all(this.videos.map(loaded));
  }

  // Go on from where it was halted, else from the beginning.
  async play() {
    const [master] = this.videos;
    const afresh = this.playing || this.share === 1;
    this.pause();
    await this.seek(afresh ? 0 : master.currentTime);
    await this.start();
  }

  pause() {
    this.regrouping = false; // halted while it was regrouping, it stays so
    for (const video of this.videos) video.pause();
  }

  // Show the frame that is so many frames further on, in all videos.
  async step(frames) {
    this.pause();
    const [master] = this.videos;
    const last = Math.round(master.duration / this.frame) - 1;
    const at = master.ended ? last : Math.floor(master.currentTime / this.frame + 1e-3);
    const wanted = Math.max(0, Math.min(at + frames, last));
    await this.seek((wanted + 0.5) * this.frame);
    this.onchange();
  }

  setRate(rate) {
    this.rate = rate;
    for (const video of this.videos) video.playbackRate = rate;
  }

  async start() {
    this.finished = false;
    this.setRate(this.rate);
    await Promise.all(this.videos.map((video) => video.ended || video.play()));
  }

  async seek(time) {
    const reached = (video) =>
      new Promise((resolve) => {
        if (video.currentTime === time && !video.seeking) resolve();
        else video.addEventListener("seeked", resolve, { once: true });
        video.currentTime = time;
      });
    await Promise.all(this.videos.map(reached));
  }

  follow() {
    const [master, ...followers] = this.videos;
    const next = (seen) =>
      master.requestVideoFrameCallback
        ? master.requestVideoFrameCallback(seen)
        : requestAnimationFrame(seen);
    const seen = () => {
      if (!master.paused && !this.regrouping) {
        const drifts = followers
          .filter((video) => !video.ended && !video.paused)
          .map((video) => [video, video.currentTime - master.currentTime]);
        if (drifts.some(([, drift]) => Math.abs(drift) > REGROUP * this.frame)) this.regroup();
        else for (const [video, drift] of drifts) this.pull(video, drift);
      }
      if (master.isConnected) next(seen);
    };
    if (followers.length) next(seen);
  }

  pull(video, drift) {
    const change = Math.max(-0.2, Math.min(0.2, drift / PULL));
    video.playbackRate = this.rate * (Math.abs(drift) < 0.1 * this.frame ? 1 : 1 - change);
  }

  async regroup() {
    this.pause();
    this.regrouping = true;
    await this.seek(this.videos[0].currentTime);
    if (!this.regrouping) return;
    this.regrouping = false;
    await this.start();
  }

  ended() {
    this.onchange();
    if (this.finished || !this.videos.every((video) => video.ended)) return;
    this.finished = true;
    this.onend();
  }
}
