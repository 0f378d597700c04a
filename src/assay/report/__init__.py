"""Self-contained HTML reports and the charts in them."""
