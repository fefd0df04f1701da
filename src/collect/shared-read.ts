/** What a thread shares with the reader: the state, the length of the path and then of the content, how long that may be, and both texts. */
export interface SharedRead {
  readonly control: Int32Array;
  readonly bytes: Uint8Array;
}

export const STATE = 0;
export const LENGTH = 1;
export const MOST = 2;
export const IDLE = 0;
export const ASKED = 1;
export const READING = 2;
export const DONE = 3;
