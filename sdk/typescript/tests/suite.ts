/** All tests that every runtime runs, and their outcomes. */

import type { Place, Test } from "./checks.js";
import { consuming } from "./consuming.js";
import { requests } from "./requests.js";
import { verifying } from "./verifying.js";

/** The name of a test, and its error if it failed. */
export interface Outcome {
  name: string;
  error: string | null;
}

const TESTS: Record<string, Test> = { ...requests, ...consuming, ...verifying };

/** Run all tests at the same time: most of their time is waiting. */
export function run(place: Place): Promise<Outcome[]> {
  return Promise.all(Object.entries(TESTS).map(([name, test]) => outcome(name, () => test(place))));
}

async function outcome(name: string, test: () => Promise<void>): Promise<Outcome> {
  try {
    await test();
    return { name, error: null };
  } catch (error) {
    return { name, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
