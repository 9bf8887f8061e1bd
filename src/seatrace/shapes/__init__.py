"""Wire formats, one file each: how a request, a response and a stream of chunks are read into a call."""
