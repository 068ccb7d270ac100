"""What a release is: its number, what is built, what is installed, what a container holds."""
