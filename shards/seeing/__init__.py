"""What a person looks at: a page of numbers, contact sheets, maps."""
