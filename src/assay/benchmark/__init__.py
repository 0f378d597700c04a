"""Methods × data sets × seeds → a resumable table → a report."""
