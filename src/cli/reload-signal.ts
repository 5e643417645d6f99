/** What supervisors send for a configuration to be read again. A process that does not listen ends by it. */
export function onReloadSignal(reload: () => Promise<void>): void {
  let reloading = Promise.resolve();
  process.on("SIGHUP", () => {
    reloading = reloading.then(reload);
  });
}
