"""Tests of cnnpar/sklearn."""
