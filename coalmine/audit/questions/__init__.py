"""What an auditor asks of the record, one module for each question; all of them ask one `Ledger`."""
