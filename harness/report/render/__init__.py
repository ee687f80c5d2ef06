"""The page and the exports: tables, plots, sections."""
