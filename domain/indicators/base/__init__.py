"""What every indicator is made of: its description, its compiler, its windows."""
