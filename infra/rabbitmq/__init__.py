"""The wheel on RabbitMQ 3.10 to 4.3, through pika's asyncio connection."""
