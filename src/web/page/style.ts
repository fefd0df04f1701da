/** The style sheet of the status page. The page policy allows no other style. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f6f6f3; --card: #fff; --line: #e3e3dc; --text: #1b1c1a; --soft: #595b54; --link: #0b5f59; --warn: #9a3412;
  --established: #0f766e; --listen: #64748b; --time_wait: #b45309; --close_wait: #dc2626; --syn: #7c3aed; --fin: #c2410c;
  --unconnected: #0369a1; --unknown: #78716c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #101211; --card: #181b1a; --line: #2c302e; --text: #e9ebe7; --soft: #a5aaa3; --link: #5eead4; --warn: #fdba74;
    --established: #2dd4bf; --listen: #94a3b8; --time_wait: #fbbf24; --close_wait: #f87171; --syn: #a78bfa; --fin: #fb923c;
    --unconnected: #38bdf8; --unknown: #a8a29e;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--ground); color: var(--text); line-height: 1.45; font-size: 15px; font-variant-numeric: tabular-nums;
  font-family: ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif;
  max-width: 1160px; margin: 0 auto; padding: 28px 20px 48px; -webkit-text-size-adjust: 100%;
}
a { color: var(--link); text-underline-offset: 3px; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 3px; border-radius: 3px; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; }
header svg { width: 34px; height: 34px; color: var(--established); flex: none; }
h1 { font-size: 26px; line-height: 1.1; letter-spacing: -0.02em; font-weight: 680; }
header p { color: var(--soft); }
nav { margin-left: auto; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; list-style: none; }
.when { color: var(--soft); margin: 10px 0 22px; }
.notice { border: 1px solid var(--warn); color: var(--warn); border-radius: 10px; padding: 10px 14px; margin: 0 0 18px; }
.totals { display: grid; grid-template-columns: repeat(5, 1fr); gap: 12px; padding: 0; }
.totals div, section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 18px 16px;
}
.totals dt { color: var(--soft); font-size: 13px; }
.totals dd { font-size: 30px; line-height: 1.15; letter-spacing: -0.02em; font-weight: 640; }
.sum { color: var(--soft); margin: 14px 2px 0; }
.sum b { color: var(--text); font-weight: 600; }
section { margin-top: 16px; min-width: 0; padding: 16px 18px 14px; }
h2 { font-size: 17px; letter-spacing: -0.01em; font-weight: 640; }
h3 { font-size: 15px; font-weight: 640; margin-top: 18px; }
h2 small, h3 small { font-size: 14px; font-weight: 400; color: var(--soft); letter-spacing: 0; }
section > p, section div > p { color: var(--soft); margin-top: 4px; max-width: 78ch; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.two { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 0 16px; align-items: start; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0 28px; }
table { width: 100%; border-collapse: collapse; margin-top: 10px; }
th, td { text-align: left; vertical-align: top; padding: 7px 14px 7px 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
tr > :last-child { padding-right: 0; }
thead th { border-top: 0; padding-top: 2px; padding-bottom: 5px; font-size: 12.5px; font-weight: 500; color: var(--soft); }
tbody th { font-weight: 560; }
tbody th i, td i { color: var(--soft); font-weight: 400; }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.sub { display: block; color: var(--soft); font-size: 13px; font-weight: 400; }
.address { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 13.5px; }
.top { table-layout: fixed; }
.top thead th:nth-child(1) { width: 27%; } .top thead th:nth-child(2) { width: 84px; padding-right: 24px; }
.top td.number { font-weight: 600; padding-right: 24px; }
.unusual { table-layout: fixed; }
.unusual thead th:nth-child(1), .unusual thead th:nth-child(2) { width: 24%; } .unusual thead th:nth-child(3) { width: 68px; }
.unusual thead th:nth-child(5) { width: 150px; }
section + .spoken + .totals { margin-top: 16px; }
button {
  font: inherit; font-size: 13px; color: var(--link); background: none; border: 1px solid currentColor; border-radius: 6px;
  padding: 1px 9px; cursor: pointer;
}
.listeners { table-layout: fixed; }
.listeners thead th:nth-child(1) { width: 46%; } .listeners thead th:nth-child(3) { width: 68px; }
.bar { display: block; width: 100%; height: 12px; border-radius: 3px; margin: 4px 0 5px; }
.states { display: flex; flex-wrap: wrap; gap: 1px 14px; padding: 0; list-style: none; font-size: 13px; color: var(--soft); }
.states b { color: var(--text); font-weight: 600; }
.states svg { width: 9px; height: 9px; margin-right: 5px; }
.established { fill: var(--established); } .listen { fill: var(--listen); } .time_wait { fill: var(--time_wait); }
.close_wait { fill: var(--close_wait); } .syn_sent, .syn_received { fill: var(--syn); }
.fin_wait_1, .fin_wait_2, .last_ack, .closing { fill: var(--fin); }
.unconnected { fill: var(--unconnected); } .closed, .unknown { fill: var(--unknown); }
tr.parts td { border-top: 0; padding-top: 0; }
.more { font-size: 13px; }
.warn { color: var(--warn); font-weight: 600; }
details { margin-top: 10px; }
summary { cursor: pointer; font-weight: 560; }
.words { display: grid; grid-template-columns: minmax(120px, max-content) minmax(0, 1fr); gap: 6px 20px; margin: 12px 0 6px; }
.words dt { font-weight: 560; overflow-wrap: anywhere; }
.words dd { color: var(--soft); max-width: 78ch; overflow-wrap: anywhere; }
.metrics { grid-template-columns: minmax(0, 5fr) minmax(0, 8fr); }
@media (max-width: 860px) {
  .two, .three { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 560px) {
  body { padding: 18px 12px 36px; }
  nav { margin: 4px 0 0; width: 100%; }
  .totals { grid-template-columns: repeat(6, 1fr); gap: 8px; }
  .totals div { grid-column: span 2; padding: 10px 12px; }
  .totals div:nth-child(-n + 2) { grid-column: span 3; }
  .totals dd { font-size: 23px; }
  section { padding: 14px 14px 12px; }
  th, td { padding-right: 10px; }
  .unusual thead { display: none; }
  .unusual th, .unusual td { display: block; border: 0; padding: 2px 0; text-align: left; }
  .unusual tbody th { border-top: 1px solid var(--line); padding-top: 7px; }
  .unusual .number::after { content: ' points'; }
  .top thead th:nth-child(1) { width: 36%; } .top thead th:nth-child(2) { width: 64px; padding-right: 10px; }
  .top td.number { padding-right: 10px; }
  .words, .metrics { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .words dd { margin-bottom: 10px; }
}
`;
