/** SIGTERM and SIGINT, in runtimes that have them. */

interface Process {
  on?: (name: string, listener: () => void) => unknown;
  off?: (name: string, listener: () => void) => unknown;
}

const NAMES = ["SIGTERM", "SIGINT"];

/**
 * Call `stop` at the first SIGTERM or SIGINT, and at the second one with `now`. A third one ends the process, as without
 * this. Returns a function that undoes it.
 */
export function stopSignals(stop: (options: { now: boolean }) => void): () => void {
  const { process } = globalThis as { process?: Process };
  const { on, off } = process ?? {};
  if (!process || !on || !off) return () => undefined;
  const forget = () => NAMES.forEach((name) => off.call(process, name, listener));
  let received = 0;
  const listener = () => {
    if (++received > 1) forget();
    stop({ now: received > 1 });
  };
  for (const name of NAMES) on.call(process, name, listener);
  return forget;
}
