/** Lists that come in pages. */

/** One page of a list. */
export interface Page<T> {
  data: T[];
  /** Where the next page begins. Null: this is the last page. */
  next_cursor: string | null;
}

/**
 * A list. `for await (const item of list)` goes through all items, and reads the pages as it needs them.
 * Nothing is requested before that.
 */
export class Pages<T, P extends Page<T> = Page<T>> implements AsyncIterable<T> {
  readonly #read: (cursor: string | undefined) => Promise<P>;

  constructor(read: (cursor: string | undefined) => Promise<P>) {
    this.#read = read;
  }

  /** The first page. */
  first(): Promise<P> {
    return this.#read(undefined);
  }

  /** All pages, one after the other. A page may be empty although others follow. */
  async *pages(): AsyncGenerator<P, void, undefined> {
    let cursor: string | null | undefined;
    do {
      const page: P = await this.#read(cursor ?? undefined);
      yield page;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const page of this.pages()) yield* page.data;
  }

  /** The items, at most `most` of them, as an array. */
  async toArray(most: number = Infinity): Promise<T[]> {
    const items: T[] = [];
    if (most <= 0) return items;
    for await (const item of this) {
      if (items.push(item) >= most) break;
    }
    return items;
  }
}
