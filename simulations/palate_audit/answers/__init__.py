"""Known answers: what the production code gives for thousands of made-up cases, compared with what was recorded."""
