"""JSON Schemas of every file and message that crosses an edge."""
