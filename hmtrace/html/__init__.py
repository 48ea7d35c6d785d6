"""Pages: one file that a browser shows without any network.

::

    report      the page of `report`: which sections, in which order
    overview    verdict and figures that come first
    findings    findings, and where each leads
    timeline    charts and maps over the captured time
    space       the address space and RAM, drawn to scale
    histograms  times of calls, by what they were
    sweep       the page of `sweep`; of `sweep --find`: search
    advise      the page of `advise`
    fleet       both, of more captures than have a page each
    plotted     figures of machines, with shades and fronts, for both pictures of them:
    heat, steps   a map over axes; a chart over one
    choice      the answer that comes first
    group       sections of one capture, among those of several
    blocks      sections of a terminal report as parts of a page
    page        the skeleton: styles, scripts, policy
    templates/  what jinja2 fills in: the skeleton, and one template for each kind of section
    assets/     styles and scripts of ours, and uPlot with its licence

A section of a terminal report is on the page as soon as :mod:`hmtrace.report.terminal` has it:
its headings, labelled rows and tables are read, not written again. Adding a section that is drawn
in its own way: a template, and a :class:`hmtrace.html.blocks.Section` that names it.

Everything that comes from a trace is text (jinja2 escapes it), passed through
:func:`hmtrace.report.text.clean` before, or a number; no style or script is made of it, and the
policy in the file lets nothing else run and nothing be fetched.

``assets/vendor`` is uPlot 1.6.32 (MIT): ``dist/uPlot.iife.min.js``, ``dist/uPlot.min.css`` and
LICENSE of its npm package, unchanged. To renew it: ``npm pack uplot``, the same files, and the
version here.
"""
