// The look of report.html.
#pragma once

namespace sg::report {

inline constexpr const char* kReportStyle = R"css(
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #16191d; --soft: #5d6673; --rule: #e3e6ea;
  --s1: #2a6fdb; --s2: #d9731a; --s3: #128a78; --good: #12805c; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root {
  --page: #101317; --card: #181c22; --ink: #e8ebef; --soft: #98a2b0; --rule: #2a3038;
  --s1: #6aa5ff; --s2: #f5a04c; --s3: #3fc7b0; --good: #4cc79a; --bad: #ff7b6b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 36px 0 12px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 6px; }
p { margin: 4px 0 0; color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px; }
.tiles { display: grid; gap: 12px; margin-top: 24px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tiles b { display: block; white-space: nowrap; font-size: 26px; font-weight: 600; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 13px; }
.charts { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.grid { stroke: var(--rule); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.label { fill: var(--ink); font-size: 12px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); } .line.s3 { stroke: var(--s3); }
.dot { stroke: var(--card); stroke-width: 1.5; }
.dot.s1 { fill: var(--s1); } .dot.s2 { fill: var(--s2); } .dot.s3 { fill: var(--s3); }
.keys { display: flex; flex-wrap: wrap; gap: 4px 16px; margin-bottom: 8px; color: var(--soft);
  font-size: 13px; }
.keys i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle; }
.keys span { white-space: nowrap; }
.above { margin: -6px 0 12px; }
.note::before { content: "!  "; color: var(--bad); font-weight: 600; }
.samples { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
.samples.small { grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); }
.sample { padding: 10px; font-size: 13px; overflow-wrap: anywhere; }
.sample img { width: 100%; border-radius: 6px; display: block; margin-bottom: 8px; }
.sample p { margin: 0; }
.sample strong { font-weight: 600; color: var(--ink); }
.small .sample p, .sample span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sample span { display: block; }
.right::before { content: "\2713  "; color: var(--good); }
.wrong::before { content: "\2717  "; color: var(--bad); }
.scroll { overflow-x: auto; padding: 0; }
.tall { max-height: 560px; overflow-y: auto; }
.matrix { display: block; max-width: none; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px; white-space: nowrap; border-bottom: 1px solid var(--rule); }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
td.number, th.number { text-align: right; }
.options { columns: 2 min(100%, 420px); column-gap: 28px; }
.options div { display: flex; justify-content: space-between; gap: 16px; padding: 4px 0;
  border-bottom: 1px solid var(--rule); break-inside: avoid; }
.options span { color: var(--soft); white-space: nowrap; }
.options code { font: 13px ui-monospace, SFMono-Regular, Menlo, monospace; text-align: right;
  overflow-wrap: anywhere; }
.options .changed { color: var(--s1); font-weight: 600; }
@media (max-width: 480px) {
  main { padding: 24px 12px 40px; }
  th, td { padding: 5px 7px; font-size: 13px; }
  .tick, .label { font-size: 19px; } }
)css";

}  // namespace sg::report
