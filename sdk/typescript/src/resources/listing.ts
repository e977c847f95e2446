/** Lists whose pages have the form `{data, next_cursor}`. */

import { type Page, Pages } from "../pages.js";
import type { Transport } from "../transport.js";

/** Parameters that every list has. */
export interface ListParams {
  /** Maximum number of items in a page. */
  limit?: number | undefined;
  /** `next_cursor` of an earlier page. */
  cursor?: string | undefined;
}

/** The list at a path. */
export function pagesOf<T>(transport: Transport, path: string, params: ListParams): Pages<T> {
  return new Pages((cursor) => {
    const query = { ...params, cursor: cursor ?? params.cursor };
    return transport.json<Page<T>>({ method: "GET", path, query });
  });
}
