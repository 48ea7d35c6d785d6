"""The site: ``make docs`` (``python -m tests.docsite FOLDER``) makes it of docs/ and the program.

::

    build      pages into one folder, Sphinx over it, what the result would load from elsewhere
    commands   a page for each command, from the tree that typer knows
    rules      a page for each rule of ``check``
    schemas    a page for each JSON document
    tables     the event table, costs, kernels, machines
    markdown   words and tables as Markdown

Nothing of the reference is written down twice: whoever changes an option, a rule, a figure or a
column changes its page. Pages made so lie in the built site alone; those in docs/ name them in a
``toctree`` only, and link to them by anchors (``#rule-kmap-leak``).
"""
