"""From prompts to an expert table, with GPT or any server that speaks Chat Completions. Nothing here uses JAX."""
