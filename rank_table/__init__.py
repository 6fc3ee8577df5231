"""Inventories, HCCL rank tables, and the rules that HCCL checks them by."""
