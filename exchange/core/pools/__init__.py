"""What a pool has, and what moves it: money, margin, modes."""
