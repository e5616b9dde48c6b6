"""Prompts as Jinja templates: those of the package by name, a user's own by path or URL. What they say belongs to the work packages."""

import jinja2
import jinja2.meta

from definemed_pipeline.artifacts.sources import open_source
from definemed_pipeline.errors import UserError


def read_prompt(location: str, *, variables: frozenset[str]) -> jinja2.Template:
    """Read a prompt; raise UserError where it is no template, or not over exactly these variables."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    try:
        with open_source(location) as file:
            source = file.read().decode("utf-8")
        used = jinja2.meta.find_undeclared_variables(environment.parse(source))
    except (OSError, ValueError, jinja2.TemplateError) as error:
        raise UserError(f"the prompt {location} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if used != variables:
        wanted = ", ".join(f"{{{{ {name} }}}}" for name in sorted(variables))
        raise UserError(f"the prompt {location} uses {sorted(used)}; it must use {wanted} and no other variable")
    return environment.from_string(source)
