"""The research clock: breeds recipes on suites of proxies, and proves what it keeps."""
