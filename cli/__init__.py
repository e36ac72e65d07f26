"""What the scripts share at the command line: flags, checks, opening and closing a run, the report."""
