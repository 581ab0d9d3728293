"""The commands of the command line, one file per kind of work; `jaxmoe.cli` puts them together."""
