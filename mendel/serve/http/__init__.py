"""The server's HTTP side: OpenAI's routes over an engine, and what keeps strangers out."""
