"""DynamoDB and whatever speaks its API: AWS, LocalStack, DynamoDB Local, Dynoxide, MiniStack."""
