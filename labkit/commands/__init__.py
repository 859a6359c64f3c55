"""The parts of the `labkit` command, one module each; `mount(app)` adds a part to the command."""
