"""Reading other programs' files; none of them is trusted."""
