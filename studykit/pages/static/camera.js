// A photograph or a recording from the camera, in a dialog of its own. Nothing leaves the browser
// before it is used.

import { button, h, icon } from "./elements.js";

const KINDS = ["video/mp4;codecs=avc1,mp4a.40.2", "video/webm;codecs=vp9,opus", "video/webm"];

export function photograph() {
  return inDialog("Take a photograph", { video: { width: 1280, height: 720 } }, (view) => {
    const take = button("Take the photograph", shoot, { kind: "first", sign: "camera" });
    async function shoot() {
      const canvas = h("canvas", { width: view.video.videoWidth, height: view.video.videoHeight });
      canvas.getContext("2d").drawImage(view.video, 0, 0);
      const blob = await new Promise((made) => canvas.toBlob(made, "image/png"));
      view.end(new File([blob], "photograph.png", { type: "image/png" }));
    }
    return [take];
  });
}

export function record({ seconds }) {
  const wanted = { video: { width: 1280, height: 720, frameRate: 30 }, audio: true };
  return inDialog("Record a driving", wanted, (view) => {
    let recorder = null;
    const start = button("Record", toggle, { kind: "first", sign: "record" });
    const words = start.querySelector("span");
    function toggle() {
      if (recorder) {
        recorder.stop();
        return;
      }
      const type = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
      const parts = [];
      recorder = new MediaRecorder(view.stream, { mimeType: type });
      recorder.ondataavailable = ({ data }) => parts.push(data);
      recorder.onstop = () => {
        clearInterval(clock);
        const suffix = type.startsWith("video/mp4") ? "mp4" : "webm";
        view.end(new File(parts, `recording.${suffix}`, { type }));
      };
      recorder.start();
      const began = performance.now();
      const clock = setInterval(() => {
        const since = (performance.now() - began) / 1000;
        words.textContent = `Stop (${since.toFixed(0)} s)`;
        // What is a little shorter is surely within the limit.
        if (since > seconds - 1) recorder.stop();
      }, 200);
      words.textContent = "Stop (0 s)";
      start.firstChild.replaceWith(icon("stop"));
    }
    return [start];
  });
}

async function inDialog(title, wanted, controls) {
  const video = h("video", { autoplay: true, muted: true, playsinline: true });
  video.muted = true; // the attribute alone does not hold for elements made by script
  const said = h("p", { class: "an-quiet", role: "status" }, "Waiting for the camera");
  const actions = h("div", { class: "rp-actions" });
  const dialog = h(
    "dialog",
    { class: "an-dialog", "aria-labelledby": "an-camera" },
    h("h2", { id: "an-camera" }, title),
    h("div", { class: "an-camera" }, video),
    said,
    actions,
  );
  document.querySelector(".an").append(dialog);
  const view = { video, stream: null };
  const ended = new Promise((resolve) => {
    view.end = resolve;
    dialog.addEventListener("close", () => resolve(null));
  });
  actions.append(button("Cancel", () => dialog.close(), { kind: "soft" }));
  dialog.showModal();
  try {
    view.stream = await navigator.mediaDevices.getUserMedia(wanted);
    video.srcObject = view.stream;
    said.textContent = "The face should fill about half of the height.";
    actions.prepend(...controls(view));
  } catch {
    said.textContent =
      "There is no camera to be had here: allow the page to use it, or choose a file instead. " +
      "Browsers give it to pages at https or localhost only.";
  }
  const file = await ended;
  for (const track of view.stream?.getTracks() ?? []) track.stop();
  dialog.remove();
  return file;
}
