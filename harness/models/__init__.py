"""Networks: encoders (images to h), projection heads (h to z), batch norm by groups of images."""
