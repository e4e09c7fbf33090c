"""The clocks: research, design, learn, tune. One folder or file each, the same five headings."""
