import { Writable } from "node:stream";
import { expect, it } from "vitest";
import { trafficView } from "./traffic-view.js";

it("writes a plain line for each route that had requests when its output is no terminal", () => {
  let written = "";
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written += chunk.toString();
      done();
    },
  });
  const view = trafficView(output);
  const requestsByApp = new Map([
    ["hola", 10],
    ["hello", 90],
  ]);
  view.show([{ route: "greet.example.com", requestsPerSecond: 100, requestsByApp }], new Date(0));
  view.show([], new Date(1_000));
  view.end();
  expect(written).toMatch(/^1970-01-01T00:00:00.000Z greet\.example\.com +100\.0 req\/s +hello 90 % +hola 10 %\n$/);
});
