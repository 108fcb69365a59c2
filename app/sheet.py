"""The style sheet of all pages."""

from __future__ import annotations

# Colours are translucent over the theme's own, so that one sheet serves light and dark.
CSS = """
<style>
.stMainBlockContainer { max-width: 1180px; padding: 2.6rem 3rem 4rem; }
.m-meta { color: color-mix(in srgb, currentColor 66%, transparent); margin: -.4rem 0 .6rem; font-size: .95rem; }
.m-meta span + span::before { content: "·"; margin: 0 .5em; }
.m-verdicts { list-style: none; margin: 0 !important; padding: 0 !important; }
.m-verdicts li { margin: 0 0 .4rem 0 !important; padding: .5rem .85rem; border-left: 4px solid #8a949f;
  border-radius: 0 5px 5px 0; background: rgba(128, 140, 152, .12); font-size: .97rem; line-height: 1.45; }
.m-verdicts li.helps { border-color: #0f8f62; background: rgba(15, 143, 98, .13); }
.m-verdicts li.hurts { border-color: #c23a55; background: rgba(194, 58, 85, .13); }
.m-table { overflow-x: auto; }
.m-table table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
.m-table th, .m-table td { text-align: right; padding: .42rem .6rem; vertical-align: top; white-space: nowrap;
  border: 0; border-bottom: 1px solid rgba(128, 140, 152, .25); }
.m-table thead th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid rgba(128, 140, 152, .6); }
.m-table tbody th { font-weight: 500; }
.m-table th:first-child, .m-table td:first-child { text-align: left; padding-left: 0; }
.m-table.narrow table { width: auto; min-width: 28rem; }
.m-table th.words, .m-table td.words { text-align: left; }
.m-table td.words:not(:first-child) { white-space: normal; }
.m-table small { display: block; font-weight: 400; font-size: .8rem;
  color: color-mix(in srgb, currentColor 66%, transparent); }
@media (max-width: 1280px) {
  .m-table table { font-size: .84rem; }
  .m-table th, .m-table td { padding-left: .25rem; padding-right: .25rem; }
  .m-table small { font-size: .735rem; }
}
.m-table thead th:first-child small { white-space: normal; }
.m-line { display: inline-block; border-radius: 3px; padding: 0 .42em; font-size: .78rem; margin-right: .35em;
  background: rgba(128, 140, 152, .18); }
.m-line.error { background: rgba(194, 58, 85, .22); }
.m-line.warning { background: rgba(217, 130, 0, .24); }
.m-facts { display: grid; grid-template-columns: max-content 1fr; gap: .25rem .9rem; font-size: .92rem;
  margin: 0 !important; padding: 0 !important; }
.m-facts dt { color: color-mix(in srgb, currentColor 66%, transparent); }
.m-facts dd { margin: 0; overflow-wrap: anywhere; }
.m-swatch { display: inline-block; width: .68em; height: .68em; border-radius: 2px; margin-right: .5em; }
.m-v { display: inline-block; font-size: .78rem; padding: 0 .42em; border-radius: 3px;
  background: rgba(128, 140, 152, .16); }
.m-v.helps { background: rgba(15, 143, 98, .2); }
.m-v.hurts { background: rgba(194, 58, 85, .2); }
.m-rows { display: grid; gap: 1rem .9rem; justify-content: start; margin: .2rem 0 .6rem; }
.m-rows figure, .m-image { margin: 0; }
.m-rows img { width: 100%; image-rendering: pixelated; border-radius: 3px; display: block; }
.m-rows figcaption, .m-image figcaption { font-size: .84rem; line-height: 1.3; margin-top: .3rem;
  color: color-mix(in srgb, currentColor 75%, transparent); }
.m-image img { width: 100%; border-radius: 3px; display: block; }
.m-image.helps img { outline: 4px solid #0f8f62; }
.m-image.hurts img { outline: 4px solid #c23a55; }
.m-empty { border: 1px dashed rgba(128, 140, 152, .6); border-radius: 8px; padding: 1.6rem 1.8rem; max-width: 46rem; }
.m-empty p { margin: 0 0 .5rem; }
.m-empty p:last-child { margin: 0; color: color-mix(in srgb, currentColor 75%, transparent); }
</style>
"""
