"""Series of dated images: features a date, and heads over them."""
