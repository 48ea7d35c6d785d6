"""What the user named: the bytes of a trace, and the files of its machine beside it.

::

    opening     from what the user named to a source: file, folder, archive, stream
    remote      captures named by a URL, copied for a while
    source      a trace's bytes and the files beside them
    magic       how the files begin
    archive     tar archives, read once
    unpack      gzip, xz, zstd and atrace -z, as streams of bounded memory
    mapped      giving back the memory of what was read of a mapped file
    threads     how many threads to read with
    spool       the folder for tables too large for memory, which ends with the process
"""
