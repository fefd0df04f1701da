import type { DiagRows, EndedSockets } from './sock-diag.ts';
export interface SocketDump { readonly netns: number; readonly tcp: DiagRows; readonly tcp6: DiagRows }
export interface SocketSource {
  readonly scope: 'own' | 'all';
  readonly isUp: boolean;
  readonly failure: string | null;
  readonly netns: number | null;
  readonly events: number;
  readonly overruns: number;
  dump(withinMs: number): Promise<SocketDump | null>;
  takeEnded(): EndedSockets;
  nsidsOf(pids: readonly number[]): Promise<ReadonlyMap<number, number>>;
  close(): void;
}
