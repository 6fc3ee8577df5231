"""Inventories, HCCL rank tables, and the rules by which HCCL checks them."""
