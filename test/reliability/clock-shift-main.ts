/** Loaded into a job before its own code: a signal sets its clock forward by a day, the next one back again. */
const DAY_MS = 86_400_000;
const RealDate = Date;
let isShifted = false;

const now = () => RealDate.now() + (isShifted ? DAY_MS : 0);

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args: unknown[], newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as Date,
  get: (target, name) => (name === "now" ? now : (Reflect.get(target, name) as unknown)),
});

process.on("SIGUSR2", () => {
  isShifted = !isShifted;
});
