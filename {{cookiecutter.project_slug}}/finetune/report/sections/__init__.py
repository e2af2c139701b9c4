"""The sections of the page: each file computes what the template of the same name in `templates/sections/` draws."""
