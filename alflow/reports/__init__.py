"""What a database tells of its campaigns: counted, drawn and told for people; it only reads."""
