"""What is listed and what it is worth: contracts, marks, prints, and forecasts from marks."""
