import type { Owner, Report } from './evidence.ts';

const HOUR_MS = 3_600_000;
const MAX_REPORTS = 10_000;
/** Per workload and kind: these are critical together, and a scan of ports must not hide the reports of others. */
const MAX_REPORTS_OF_KIND = 10;

/** A report, and when it was first exported. */
type Exported = Report & { firstExportAt: number | null };

/**
 * What was reported: for an hour after the first export, so that an outage of Prometheus hides none. One for each kind and `what` of a
 * workload. Owners are compared as objects.
 */
export class Reports {
  #reports: Exported[] = [];
  #novelties: Pick<Report, 'owner' | 'kind'>[] = [];

  get all(): readonly Report[] {
    return this.#reports;
  }

  /** Begins a scan: drops what was exported for an hour. If the clock was set back, the hour begins again. */
  begin(now: number): void {
    for (const report of this.#reports)
      if (report.firstExportAt !== null) report.firstExportAt = Math.min(report.firstExportAt, now);
    this.#reports = this.#reports.filter(
      ({ firstExportAt }) => firstExportAt === null || now - firstExportAt < HOUR_MS,
    );
  }

  markExported(exported: readonly Report[], now: number): void {
    const marked = new Set(exported);
    for (const report of this.#reports) if (marked.has(report)) report.firstExportAt ??= now;
  }

  /** Those of an owner in the past hour. */
  recent(of: Owner, now: number): Report[] {
    return this.#reports.filter(({ owner, recordedAt }) => owner === of && now - recordedAt < HOUR_MS);
  }

  /** Adds a report, or its points to the one of the same kind and `what`. Returns what is kept; null if there is no place. */
  add(report: Report): Report | null {
    const { owner, kind } = report;
    const before = this.#same(report);
    if (before) {
      // A process that held a socket before it called out, or an operator in both directions: one report with the sum.
      const grown = {
        ...before,
        points: before.points + report.points,
        reason: `${before.reason} ${report.reason}`,
      };
      this.#reports[this.#reports.indexOf(before)] = grown;
      return grown;
    }
    if (this.#novelties.length < MAX_REPORTS) this.#novelties.push({ owner, kind });
    return this.#keep(report);
  }

  /** Adds a report of a former run, unless it is known. */
  restore(report: Report): void {
    if (!this.#same(report)) this.#keep(report);
  }

  /** Ends those reports of an owner for which `isEnded` returns true. */
  end(of: Owner, isEnded: (report: Report) => boolean): void {
    this.#reports = this.#reports.filter((report) => report.owner !== of || !isEnded(report));
  }

  /** The sum of points of each owner with a report. */
  points(): { readonly owner: Owner; readonly points: number }[] {
    const sums = new Map<Owner, number>();
    for (const { owner, points } of this.#reports) sums.set(owner, (sums.get(owner) ?? 0) + points);
    return Array.from(sums, ([owner, points]) => ({ owner, points }));
  }

  /** The reports that were added since the last call, to be counted. */
  takeNovelties(): Pick<Report, 'owner' | 'kind'>[] {
    return this.#novelties.splice(0);
  }

  #same({ owner, kind, what }: Report): Exported | undefined {
    return this.#reports.find((own) => own.owner === owner && own.kind === kind && own.what === what);
  }

  #keep(report: Report): Report | null {
    if (!this.#makePlace(report)) return null;
    const kept = { ...report, firstExportAt: null };
    this.#reports.push(kept);
    return kept;
  }

  /** Says whether there is place for a report. Of too many of an owner and kind, those with the most points stay. */
  #makePlace({ owner, kind, points }: Report): boolean {
    const ofKind = this.#reports.filter((report) => report.owner === owner && report.kind === kind);
    if (ofKind.length < MAX_REPORTS_OF_KIND) return this.#reports.length < MAX_REPORTS;
    const least = ofKind.reduce((a, b) => (b.points < a.points ? b : a));
    if (least.points >= points) return false;
    this.#reports.splice(this.#reports.indexOf(least), 1);
    return true;
  }
}
