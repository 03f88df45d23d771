// The API, described by itself: what can be asked for, with what, and what comes back.

import { ask } from "./api.js";
import { h } from "./elements.js";
import { topLine, wholeWindow } from "./frame.js";

const EXAMPLE = `# bring two files, animate one with the other, wait, and take the clip along
S=http://localhost:8866/api
curl -c jar -b jar "$S/uploads?role=source&name=me.jpg" --data-binary @me.jpg
curl -c jar -b jar "$S/uploads?role=driving&name=talk.mp4" --data-binary @talk.mp4
curl -b jar "$S/animate" -H "content-type: application/json" \\
  -d '{"source": "ID", "driving": "ID", "method": "warp", "may": true}'
curl -b jar -N "$S/events"
curl -b jar -OJ "$S/animations/ID/download/clip.mp4"`;

// A schema in words: "a number", "one of ...", or the name of another.
function words(schema = {}) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.filter(({ type }) => type !== "null").map(words).join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.const) return schema.const;
  if (schema.type === "array") return `list of ${words(schema.items)}`;
  return schema.type ?? "anything";
}

function table(rows) {
  if (!rows.length) return null;
  const cells = (row) => row.map((cell, index) => h(index ? "td" : "th", index ? {} : { scope: "row" }, cell));
  return h("table", {}, h("tbody", {}, ...rows.map((row) => h("tr", {}, ...cells(row)))));
}

const fields = ({ properties = {} }) =>
  Object.entries(properties).map(([name, field]) => [
    h("code", {}, name),
    words(field),
    field.description ?? "",
  ]);

function operation(path, verb, { summary, parameters = [], requestBody }) {
  const body = requestBody?.content["application/json"]?.schema;
  const given = parameters.filter((each) => each.in === "query" || each.schema.enum);
  return h(
    "section",
    { class: "an-operation" },
    h("h3", {}, h("code", {}, h("b", {}, verb.toUpperCase()), ` ${path}`)),
    h("p", {}, summary),
    table(given.map((each) => [h("code", {}, each.name), words(each.schema)])),
    body && h("p", { class: "an-quiet" }, `The body is JSON: ${words(body)}, as below.`),
  );
}

async function begin() {
  const root = wholeWindow();
  const { paths, components } = await ask("openapi.json");
  const operations = Object.entries(paths).flatMap(([path, verbs]) =>
    Object.entries(verbs).map(([verb, about]) => operation(path, verb, about)),
  );
  const asked = h(
    "section",
    { class: "an-operation" },
    h("h3", {}, "Asked"),
    table(fields(components.schemas.Asked)),
  );
  root.append(
    topLine("studykit ", "API", h("a", { href: "./" }, "Animate")),
    h(
      "main",
      { class: "an-docs" },
      h("p", {}, "The pages use nothing else. A visitor is known by a cookie and sees their own " +
        "files alone; these are gone 30 seconds after the visitor has left: keep /api/events open, " +
        "or ask for something now and then. What is refused is JSON with the key problem, one line " +
        "that says why and what to do."),
      h("h2", {}, "From a shell"),
      h("pre", { tabindex: 0 }, EXAMPLE),
      h("h2", {}, "What can be asked for"),
      ...operations,
      h("h2", {}, "What is sent"),
      asked,
      h("p", {}, h("a", { href: "api/openapi.json" }, "The same as OpenAPI, for programs")),
    ),
  );
}

begin();
