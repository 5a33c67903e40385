"""What is deployed, looked at offline: policies judged, templates compared, images built, releases installed."""
