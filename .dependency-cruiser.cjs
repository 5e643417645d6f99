/** Keeps the arrows of docs/architecture.md. Who may import whom is said once, here. */
const folder = (name) => `^src/${name}/`;
const only = (from, allowed, comment) => ({
  name: `${from.replace("/", "-")}-imports`,
  severity: "error",
  comment,
  from: { path: folder(from), pathNot: "\\.(test|contract)\\.ts$" },
  to: { path: "^(src|test|bench)/", pathNot: [from, ...allowed].map(folder) },
});

module.exports = {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
    {
      name: "no-orphans",
      severity: "error",
      from: { orphan: true, pathNot: "(\\.test\\.ts|\\.d\\.ts|main\\.ts)$" },
      to: {},
    },
    only("lib", [], "no word of routing in lib"),
    only("gen", [], "generated"),
    only("entries", ["gen", "lib"], "the words of the log"),
    only("log", ["entries", "lib"], "the log knows keys and bytes"),
    only("sources", ["entries", "log", "gen", "lib"], "sources write entries"),
    only("model", ["entries", "lib"], "pure"),
    only("compile", ["model", "entries", "route-services", "gen", "lib"], "pure"),
    only("xds", ["gen", "lib"], "serves whatever resources it is given"),
    only("envoy", ["lib"], "runs Envoy"),
    only("access-log", ["lib"], "pure: Envoy's records as lines"),
    only("loggregator", ["gen", "lib"], "takes lines to a loggregator agent"),
    only("route-services", ["lib"], "pure: the protocol with route services"),
    only("config", ["lib"], "the schema"),
    only("api", ["lib"], "read-only views"),
    only("emulator", ["gen", "lib"], "one mistake must not hide on both sides"),
    {
      name: "sources-do-not-know-each-other",
      severity: "error",
      from: { path: "^src/sources/([^/]+)/" },
      to: { path: "^src/sources/[^/]+/", pathNot: "^src/sources/$1/" },
    },
    {
      name: "pure-core",
      severity: "error",
      comment:
        "model, compile, access-log and route-services take facts and time as arguments: no I/O, no timer, no process",
      from: { path: "^src/(model|compile|access-log|route-services)/", pathNot: "\\.test\\.ts$" },
      to: { dependencyTypes: ["core"], pathNot: "^crypto$" },
    },
    {
      name: "nothing-imports-tests",
      severity: "error",
      from: { path: "^(src|bench)/", pathNot: "\\.(test|contract)\\.ts$" },
      to: { path: "(^test/|\\.test\\.ts$)" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node", "default"] },
  },
};
