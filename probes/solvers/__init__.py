"""What is fitted to features, each exact and for a whole grid at once; knows no benchmark."""
