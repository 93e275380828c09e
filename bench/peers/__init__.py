"""Scripts that other interpreters run, one a library; they import nothing from here but `serve`."""
